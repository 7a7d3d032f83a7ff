"""What a user types. Each module has ``run(word, arguments) -> exit status``."""
