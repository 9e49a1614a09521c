"""How long a network is trained, and in batches of what size, where the settings leave it to the number of rows.

The numbers are those at which the default network for tables validated best on three tasks of 4,000 to 26,000 rows.
"""

import math

EPOCHS = 2600.0  # over the square root of the number of rows: four times as many rows take twice as long
FEWEST_EPOCHS, MOST_EPOCHS = 4, 40
BATCHES = 128  # of an epoch, if their size is within these bounds
SMALLEST_EXPONENT, LARGEST_EXPONENT = 4, 8


def default_epochs(rows: int) -> int:
    """Return the epochs for so many training rows: ``2600 / sqrt(rows)``, from 4 to 40."""
    return min(max(round(EPOCHS / math.sqrt(rows)), FEWEST_EPOCHS), MOST_EPOCHS)


def default_batch(rows: int) -> int:
    """Return the rows of a step for so many training rows: the power of two next to a 128th of them, from 16 to 256.

    Small data sets get enough steps in an epoch, and large ones are trained fast.
    """
    return int(2 ** min(max(round(math.log2(rows / BATCHES)), SMALLEST_EXPONENT), LARGEST_EXPONENT))
