"""WHERE THINGS LIE: rows in a database, blobs in an object store. Knows no job, no request and no server."""
