/* Red-black trees of a market's blocks. */
#ifndef VELOX_MARKET_TREE_H
#define VELOX_MARKET_TREE_H

#include "layout.h"

struct tree {
    u8 *blocks;
    u32 *root;
    u32 *best; /* the rightmost node, kept up to date; 0 if the tree needs none */
};

static inline struct node *node_at(u8 *blocks, u32 index)
{
    return (struct node *)(blocks + index);
}

/* Hang the block `index` below `parent`, to its right or left, and repair the tree. */
void tree_insert(const struct tree *tree, u32 index, u32 parent, int right);

/* Take the block `index` out. No other block moves. */
void tree_remove(const struct tree *tree, u32 index);

/* The node before `index` in order, or NOWHERE. */
u32 tree_before(u8 *blocks, u32 index);

#endif
