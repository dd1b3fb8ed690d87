"""Pure planners, from a config to a plan, and the views that show what plans made."""
