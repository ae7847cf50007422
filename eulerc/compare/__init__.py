"""What differs between two designs, in the terms of the language and in numbers."""
