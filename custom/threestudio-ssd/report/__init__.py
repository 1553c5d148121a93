"""What a run leaves for people: pictures before and after, figures, pages."""
