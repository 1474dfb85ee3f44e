/* shard.h - the layout of llm.c's token shards.
 *
 * 256 little-endian int32: magic, version, number of tokens, zeros; then the tokens as
 * little-endian uint16, and nothing after them.
 */
#ifndef FPL_DATA_SHARD_H
#define FPL_DATA_SHARD_H

enum { FPL_SHARD_HEADER = 1024, FPL_SHARD_MAGIC = 20240520, FPL_SHARD_VERSION = 1 };

#endif
