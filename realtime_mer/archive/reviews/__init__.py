"""What reviewers decided about the events of a results folder, and what that comes to together."""
