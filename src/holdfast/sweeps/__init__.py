"""Pure search: which points a sweep has, and what they are called. Knows no scheduler and no file but the sweep's."""
