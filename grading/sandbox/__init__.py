"""One untrusted program behind walls: started, watched, ended, and the walls proved."""
