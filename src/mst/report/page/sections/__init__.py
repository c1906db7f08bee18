"""What each section shows, from the files of the runs."""
