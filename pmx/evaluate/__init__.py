"""Numbers from verdicts and the truth. It sees a bundle's replay, never the features or the model."""
