/* Which fault a program built with FAULTS has. The host finds it by its mark: "velox", "fault". */
#include "fault.h"

#ifdef FAULTS
const volatile struct fault fault = {
    {0x0000786f6c657600ull, 0x0000746c75616600ull}, NO_FAULT, 0};
#endif
