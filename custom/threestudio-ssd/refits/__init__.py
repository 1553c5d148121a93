"""Views edited by an image editor, and the splat refitted to them: changes of shape."""
