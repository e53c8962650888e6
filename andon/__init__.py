"""The core of andon: what a production line is, and what may happen to it. No screen, no network, no vendor."""
