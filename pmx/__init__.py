"""pmx: from the history of a fleet of machines to a small sealed file that predicts failures on the machine itself."""

__version__ = "0.1.0"
