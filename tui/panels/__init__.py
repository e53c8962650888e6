"""What the screens are made of: pure drawing on a grid of cells, and the widgets that show it."""
