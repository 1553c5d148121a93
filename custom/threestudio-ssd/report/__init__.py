"""What a run leaves for people: figures of any edit, and rows of images as files."""
