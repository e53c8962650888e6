"""The screens of the room: floor, line, reason, keys."""
