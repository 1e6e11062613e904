"""Wrong work, one kind of material a file: graphs, weights, scales, images, documents, evidence."""
