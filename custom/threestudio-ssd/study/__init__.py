"""User studies as the paper ran them: blinded side-by-sides, votes of people or of a vision-language model, shares."""
