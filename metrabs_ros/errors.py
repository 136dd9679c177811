"""The one kind of error that is meant for a person's eyes."""


class InputError(ValueError):
    """Something from outside does not fit.

    The message is a sentence that says what was expected, what came and what to do. A command prints it and exits 2;
    the node warns with it and goes on, or refuses to configure.
    """
