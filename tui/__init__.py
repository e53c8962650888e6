"""What a person touches in a terminal: the command line and the room."""

VERSION = "0.1.0"
