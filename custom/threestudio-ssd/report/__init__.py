"""What a run leaves for people: images before and after, figures, pages."""
