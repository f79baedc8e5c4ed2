/* The market's account: a header of 256 bytes, then blocks of 80.
 *
 *     header                                  block: a node of a tree
 *       0 discriminant         u64              0 left, right, parent   3 x u32
 *       8 version              u8              12 colour (1 red)        u8
 *       9 base, quote decimals 2 x u8          13 kind (1 seat, 2 order) u8
 *      11 base, quote bump     2 x u8        and an order               or a seat
 *      16 base mint            32              16 price      u128         16 trader  32
 *      48 quote mint           32              32 atoms      u64          48 base    u64
 *      80 base vault           32              40 sequence   u64          56 quote   u64
 *     112 quote vault          32              48 seat       u32          64 volume  u64
 *     144 next sequence        u64             52 last slot  u32
 *     152 bytes of blocks      u32             56 is a bid   u8
 *     156 bid root, best       2 x u32         57 type       u8
 *     164 ask root, best       2 x u32         58 spread     u16
 *     172 seat root            u32
 *     176 free head            u32           or a free block
 *     184 quote volume         u64              0 next free  u32
 *
 * An index is a block's place in bytes behind the header; NOWHERE is none. What is not named is 0.
 */
#ifndef VELOX_MARKET_LAYOUT_H
#define VELOX_MARKET_LAYOUT_H

#include "charge.h"
#include "fault.h"
#include "wide.h"

#define DISCRIMINANT 4859840929024028656ull
#define HEADER_BYTES 256
#define BLOCK_BYTES 80
#define NOWHERE 0xffffffffu

enum { BLACK, RED };
enum { FREE, SEAT, ORDER };
enum { LIMIT, IMMEDIATE_OR_CANCEL, POST_ONLY, GLOBAL, REVERSE, REVERSE_TIGHT, ORDER_TYPES };

struct tree_root {
    u32 root, best;
};

struct header {
    u64 discriminant;
    u8 version, base_decimals, quote_decimals, base_bump, quote_bump, padding[3];
    struct key base_mint, quote_mint, base_vault, quote_vault;
    u64 next_sequence;
    u32 block_bytes;
    struct tree_root bids, asks;
    u32 seats, free;
    u32 more_padding;
    u64 quote_volume;
    u64 reserved[8];
};

struct node {
    u32 left, right, parent;
    u8 colour, kind;
    u16 padding;
};

struct order {
    struct node node;
    struct wide price;
    u64 atoms, sequence;
    u32 seat, last_slot;
    u8 is_bid, type;
    u16 spread;
    u32 padding;
    u64 reserved[2];
};

struct seat {
    struct node node;
    struct key trader;
    u64 base, quote, volume, reserved;
};

#define AT(type, field, offset) \
    _Static_assert(__builtin_offsetof(struct type, field) == (offset), #type "." #field)
AT(header, base_mint, 16);
AT(header, next_sequence, 144);
AT(header, block_bytes, 152);
AT(header, bids, 156);
AT(header, asks, 164);
AT(header, seats, 172);
AT(header, free, 176);
AT(header, quote_volume, 184);
AT(node, colour, 12);
AT(order, price, 16);
AT(order, sequence, 40);
AT(order, last_slot, 52);
AT(order, spread, 58);
AT(seat, trader, 16);
AT(seat, volume, 64);
_Static_assert(sizeof(struct header) == HEADER_BYTES, "header");
_Static_assert(sizeof(struct order) == BLOCK_BYTES, "order");
_Static_assert(sizeof(struct seat) == BLOCK_BYTES, "seat");

#endif
