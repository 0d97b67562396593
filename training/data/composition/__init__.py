"""Pictures made of pictures: scenes, several of one, backgrounds, other colours."""
