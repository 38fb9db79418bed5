"""What users hold their own work against: planted sensor faults, and what a bundle makes of them."""
