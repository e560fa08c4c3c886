"""Steps of other libraries over the same network and tasks; each imports its library when it is prepared."""
