"""What is computed for each explorer of the lesson, and the training behind it."""
