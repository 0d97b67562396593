"""The Match tab: captions ranked for a picture, the reasons, and tables of many pictures."""
