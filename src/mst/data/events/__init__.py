"""Files of event cameras, or pictures, come in; count frames, voxel grids and slices over time go out."""
