"""The CRC-32 of ISO-HDLC and Ethernet: polynomial 0xEDB88320, reflected."""

from libc.stdint cimport uint32_t

cdef extern from *:
    """
    #include <stdint.h>
    /* Half a byte at a time: one checksum a message does not pay for a larger table. */
    static const uint32_t velox_crc32_table[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158,
        0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4,
        0xA00AE278, 0xBDBDF21C,
    };
    """
    const uint32_t crc32_table "velox_crc32_table"[16]


cdef inline uint32_t crc32_update(uint32_t crc, const char *text, size_t size) noexcept nogil:
    """Continue a CRC, which is kept inverted: start with ~0, finish with ~crc."""
    cdef size_t index
    for index in range(size):
        crc ^= <unsigned char>text[index]
        crc = crc >> 4 ^ crc32_table[crc & 15]
        crc = crc >> 4 ^ crc32_table[crc & 15]
    return crc
