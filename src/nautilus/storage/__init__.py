"""WHERE THINGS LIE: rows in a database, blobs in an object store."""
