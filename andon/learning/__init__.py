"""What the ledger teaches: how fast and how safely each line learns from what it ships."""
