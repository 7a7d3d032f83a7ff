"""Earth-observation segmentation when labels are few and the domain shifts."""

__version__ = '0.1.0'
