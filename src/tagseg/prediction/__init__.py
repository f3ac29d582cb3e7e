"""A trained model's reading of photos: from photos to maps, masks and scores."""
