"""Any training script, any sweep: from a script, a config, a sweep and overrides to a plan of `command` stages."""
