"""What is known of a message when it is judged; collected within a time limit."""
