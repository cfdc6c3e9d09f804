"""The search job: targets, choice, measurement, training for one network, delivery and card."""
