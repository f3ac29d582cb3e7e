"""Looking at masks, the doubtful first, and putting right the few that matter."""
