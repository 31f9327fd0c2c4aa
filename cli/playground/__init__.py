"""The page of `privpart-keras playground`: one picture through a bundle, seen from the device, the server and an attacker."""
