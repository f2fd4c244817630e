"""The pages, one thin file each, and what they share."""
