"""The methods: each class is a tableau and a docstring. `tfnode.solvers` finds them by itself."""
