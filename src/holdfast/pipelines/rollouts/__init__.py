"""Plans collections of rollouts, says what of them is owed, and reads and writes what others make of theirs."""
