"""Who may do what: roles, actions, and the one place that decides."""
