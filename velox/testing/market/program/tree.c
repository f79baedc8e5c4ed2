/* Red-black trees, as in Cormen, Leiserson, Rivest and Stein, chapter 13, without recursion.
 *
 * A block that is removed while it has two children changes places with its successor: links and
 * colour are exchanged, never the payload, since others know orders and seats by their index.
 */
#include "tree.h"

static inline struct node *node_of(const struct tree *tree, u32 index)
{
    return node_at(tree->blocks, index);
}

/* Let `parent` (or the root) point to `to` where it pointed to `from`. */
static inline void relink(const struct tree *tree, u32 parent, u32 from, u32 to)
{
    if (parent == NOWHERE) {
        *tree->root = to;
    } else {
        struct node *above = node_of(tree, parent);
        if (above->left == from)
            above->left = to;
        else
            above->right = to;
    }
}

/* Lift the right child of `index` above it (`right`: the left child). */
__attribute__((noinline)) static void rotate(const struct tree *tree, u32 index, int right)
{
    struct node *node = node_of(tree, index);
    u32 child_index = right ? node->left : node->right;
    struct node *child = node_of(tree, child_index);
    u32 inner = right ? child->right : child->left;
    if (right) {
        node->left = inner;
        child->right = index;
    } else {
        node->right = inner;
        child->left = index;
    }
    if (inner != NOWHERE)
        node_of(tree, inner)->parent = index;
    child->parent = node->parent;
    relink(tree, node->parent, index, child_index);
    node->parent = child_index;
}

void tree_insert(const struct tree *tree, u32 index, u32 parent, int right)
{
    struct node *node = node_of(tree, index);
    node->left = NOWHERE;
    node->right = NOWHERE;
    node->parent = parent;
    node->colour = RED;
    if (parent == NOWHERE)
        *tree->root = index;
    else if (right)
        node_of(tree, parent)->right = index;
    else
        node_of(tree, parent)->left = index;
    if (tree->best && (parent == NOWHERE || (right && *tree->best == parent)))
        *tree->best = index;
#ifdef MUTANT_NO_REPAIR
    return;
#endif
    while (node->parent != NOWHERE && node_of(tree, node->parent)->colour == RED) {
        u32 above = node->parent;
        struct node *father = node_of(tree, above);
        struct node *grandfather = node_of(tree, father->parent);
        int is_right = grandfather->right == above;
        u32 uncle = is_right ? grandfather->left : grandfather->right;
        if (uncle != NOWHERE && node_of(tree, uncle)->colour == RED) {
            father->colour = BLACK;
            node_of(tree, uncle)->colour = BLACK;
            grandfather->colour = RED;
            index = father->parent;
            node = grandfather;
            continue;
        }
        if ((father->right == index) != is_right) {
            rotate(tree, above, is_right);
            above = index;
            father = node;
        }
        father->colour = BLACK;
        grandfather->colour = RED;
        rotate(tree, father->parent, !is_right);
        break;
    }
    node_of(tree, *tree->root)->colour = BLACK;
}

u32 tree_before(u8 *blocks, u32 index)
{
    struct node *node = node_at(blocks, index);
    if (node->left != NOWHERE) {
        index = node->left;
        while (node_at(blocks, index)->right != NOWHERE)
            index = node_at(blocks, index)->right;
        return index;
    }
    u32 above = node->parent;
    while (above != NOWHERE && node_at(blocks, above)->left == index) {
        index = above;
        above = node_at(blocks, above)->parent;
    }
    return above;
}

/* Exchange the places and colours of `index` and its successor, which has no left child. */
__attribute__((noinline)) static void exchange(const struct tree *tree, u32 index, u32 next_index)
{
    struct node *node = node_of(tree, index), *next = node_of(tree, next_index);
    u32 parent = node->parent, left = node->left, right = node->right;
    u32 next_parent = next->parent, next_right = next->right;
    u8 colour = node->colour;
    relink(tree, parent, index, next_index);
    next->parent = parent;
    next->left = left;
    node_of(tree, left)->parent = next_index;
    if (next_parent == index) {
        next->right = index;
        node->parent = next_index;
    } else {
        next->right = right;
        node_of(tree, right)->parent = next_index;
        node->parent = next_parent;
        node_of(tree, next_parent)->left = index;
    }
    node->left = NOWHERE;
    node->right = next_right;
    if (next_right != NOWHERE)
        node_of(tree, next_right)->parent = index;
#ifdef MUTANT_KEEPS_COLOUR
    (void)colour;
#else
    node->colour = next->colour;
    next->colour = colour;
#endif
}

/* Give back the black that is missing below `above`, on its right side or its left. */
__attribute__((noinline)) static void restore(const struct tree *tree, u32 above, int is_right)
{
    while (above != NOWHERE) {
        struct node *father = node_of(tree, above);
        u32 brother_index = is_right ? father->left : father->right;
        struct node *brother = node_of(tree, brother_index);
        if (brother->colour == RED) {
            brother->colour = BLACK;
            father->colour = RED;
            rotate(tree, above, is_right);
            brother_index = is_right ? father->left : father->right;
            brother = node_of(tree, brother_index);
        }
        u32 outer = is_right ? brother->left : brother->right;
        u32 inner = is_right ? brother->right : brother->left;
        int outer_red = outer != NOWHERE && node_of(tree, outer)->colour == RED;
        int inner_red = inner != NOWHERE && node_of(tree, inner)->colour == RED;
        if (!outer_red && !inner_red) {
            brother->colour = RED;
            if (father->colour == RED) {
                father->colour = BLACK;
                return;
            }
            u32 index = above;
            above = father->parent;
            if (above != NOWHERE)
                is_right = node_of(tree, above)->right == index;
            continue;
        }
        if (!outer_red) {
            node_of(tree, inner)->colour = BLACK;
            brother->colour = RED;
            rotate(tree, brother_index, !is_right);
            outer = brother_index;
            brother = node_of(tree, inner);
        }
        brother->colour = father->colour;
        father->colour = BLACK;
        node_of(tree, outer)->colour = BLACK;
        rotate(tree, above, is_right);
        return;
    }
}

void tree_remove(const struct tree *tree, u32 index)
{
    struct node *node = node_of(tree, index);
    if (tree->best && *tree->best == index)
        *tree->best = tree_before(tree->blocks, index);
    if (node->left != NOWHERE && node->right != NOWHERE) {
        u32 next = node->right;
        while (node_of(tree, next)->left != NOWHERE)
            next = node_of(tree, next)->left;
        exchange(tree, index, next);
    }
    u32 child = node->left != NOWHERE ? node->left : node->right;
    u32 parent = node->parent;
    int is_right = parent != NOWHERE && node_of(tree, parent)->right == index;
    relink(tree, parent, index, child);
    if (child != NOWHERE) {
        /* An only child is red. */
        node_of(tree, child)->parent = parent;
        node_of(tree, child)->colour = BLACK;
    } else if (node->colour == BLACK) {
        restore(tree, parent, is_right);
    }
}
