"""The submitter and its parts: signing, sending, following, reconciling, recovering."""
