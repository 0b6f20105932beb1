"""What goes over the wire, as plain data and bytes: no sockets and no clocks here."""
