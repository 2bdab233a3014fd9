"""Where things are in a picture of a face: landmarks, pose, regions, crops, and how good landmarks are."""
