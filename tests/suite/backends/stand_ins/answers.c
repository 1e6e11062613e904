/* What stands in for NVIDIA's libraries under TensorRT's Python bindings, on x86-64 Linux.

   Every function that the bindings import returns one and the same object, and so does every virtual function of that
   object, whatever it is asked. The object's address is chosen so that an answer passes for whatever type is expected:
   as a flag it is true (its low byte is not 0), as a 32-bit number it is 1, and as a text it reads "A", for its first
   two bytes are 'A' and 0. Thus all that the bindings themselves know - names, overloads, argument types - is met
   without TensorRT, a driver or a GPU, and nothing that TensorRT would compute. */
#include <stdint.h>
#include <sys/mman.h>

#define PAGE 0x100000000L
#define ADDRESS (PAGE + 1)   /* the object */
#define TABLE_PAGE 0x200000000L
#define TABLE (TABLE_PAGE + 'A') /* its virtual functions: little-endian, so the object's first bytes are 'A', 0 */
#define FUNCTIONS 1500

typedef struct { int32_t rank; int64_t sizes[8]; } Shape;

static void* answer(void* first) {
  if (((uintptr_t)first & ~4095UL) == PAGE) return (void*)ADDRESS;
  /* A structure is returned through a hidden first argument. The only one that is asked for is a shape. */
  Shape* shape = first;
  *shape = (Shape){4, {1, 3, 32, 32}};
  return first;
}

static const char* type_information[2] = {0, "stand-in"}; /* pybind11 asks for the name of an object's class */

__attribute__((constructor)) static void lay_out(void) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  mmap((void*)PAGE, 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
  mmap((void*)TABLE_PAGE, 16384, PROT_READ | PROT_WRITE, flags, -1, 0);
  intptr_t* functions = (intptr_t*)TABLE;
  functions[-2] = 0;
  functions[-1] = (intptr_t)type_information;
  for (int i = 0; i < FUNCTIONS; i++) functions[i] = (intptr_t)answer;
  /* From version 8 on, an object's second word points to the implementation that its inline functions call. */
  intptr_t* object = (intptr_t*)ADDRESS;
  object[0] = TABLE;
  for (int i = 1; i < 64; i++) object[i] = ADDRESS;
}

#define GIVES(name) void* name(void) { return (void*)ADDRESS; }
