/* Counts what each thread of a pipeline asks of the heap, of locks and of the kernel.

   Loaded with LD_PRELOAD. A thread that names itself "velox-..." gets a row of counters; other
   threads only pay for a look at a thread-local pointer. Three witnesses, each its own:

   heap, locks  the C library's functions, called through its symbols, are interposed
   kernel       a seccomp filter, installed by the thread on itself, traps every system call that
                does not come from `pass_on` below; the handler counts it and passes it on. This
                sees what no interposition can: calls from inside the C library.

   velox_count_row(name) finds the latest row of that name.
   See docs/explanation/assurance.md. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define ROWS 256
#define SYSCALLS 512

/* Only its own thread writes a row; a reader sees each aligned word whole. */
struct row {
    char name[16];
    uint64_t heap;
    uint64_t locks;
    uint64_t kernel;                /* the sum of the next */
    uint64_t kernel_by_number[SYSCALLS];
    int refused;                    /* errno of the filter, or 0: it stands */
};

static struct row rows[ROWS];
static unsigned used;
static __thread struct row *mine __attribute__((tls_model("initial-exec")));

#define NEXT(name) \
    static __typeof__(&name) real_##name; \
    if (!real_##name) \
        *(void **)&real_##name = dlsym(RTLD_NEXT, #name);

static inline void add(uint64_t *counter)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

/* The heap. glibc's own names spare the search for the next malloc, which may itself allocate. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

#define HEAP() do { if (mine) add(&mine->heap); } while (0)
void *malloc(size_t n) { HEAP(); return __libc_malloc(n); }
void *calloc(size_t n, size_t size) { HEAP(); return __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { HEAP(); return __libc_realloc(p, n); }
void free(void *p) { HEAP(); __libc_free(p); }
void *memalign(size_t alignment, size_t n) { HEAP(); return __libc_memalign(alignment, n); }
void *aligned_alloc(size_t alignment, size_t n) { HEAP(); return __libc_memalign(alignment, n); }
int posix_memalign(void **p, size_t alignment, size_t n)
{
    HEAP();
    *p = __libc_memalign(alignment, n);
    return *p ? 0 : ENOMEM;
}

/* Locks. */
#define LOCK(name, parameters, arguments) \
    int name parameters \
    { \
        NEXT(name) \
        if (mine) \
            add(&mine->locks); \
        return real_##name arguments; \
    }
LOCK(pthread_mutex_lock, (pthread_mutex_t *m), (m))
LOCK(pthread_mutex_trylock, (pthread_mutex_t *m), (m))
LOCK(pthread_mutex_timedlock, (pthread_mutex_t *m, const struct timespec *t), (m, t))
LOCK(pthread_mutex_unlock, (pthread_mutex_t *m), (m))
LOCK(pthread_spin_lock, (pthread_spinlock_t *m), (m))
LOCK(pthread_rwlock_rdlock, (pthread_rwlock_t *m), (m))
LOCK(pthread_rwlock_wrlock, (pthread_rwlock_t *m), (m))
LOCK(sem_wait, (sem_t *s), (s))
LOCK(sem_trywait, (sem_t *s), (s))
LOCK(sem_clockwait, (sem_t *s, clockid_t c, const struct timespec *t), (s, c, t))
LOCK(sem_timedwait, (sem_t *s, const struct timespec *t), (s, t))
LOCK(sem_post, (sem_t *s), (s))

/* The kernel. `pass_on` is the one place that the filter lets through. */
extern const char velox_pass_on_begin[], velox_pass_on_end[];
long velox_pass_on(long a, long b, long c, long d, long e, long f, long number);
#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
__asm__(".text\n.globl velox_pass_on\n.type velox_pass_on,@function\n"
        "velox_pass_on:\n  mov %rcx, %r10\n  mov 8(%rsp), %rax\n"
        ".globl velox_pass_on_begin\nvelox_pass_on_begin:\n  syscall\n"
        ".globl velox_pass_on_end\nvelox_pass_on_end:\n  ret\n");
#define ARGUMENT(context, n) ((context)->uc_mcontext.gregs[ \
    (const int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9}[n]])
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
__asm__(".text\n.globl velox_pass_on\n.type velox_pass_on,%function\n"
        "velox_pass_on:\n  mov x8, x6\n"
        ".globl velox_pass_on_begin\nvelox_pass_on_begin:\n  svc #0\n"
        ".globl velox_pass_on_end\nvelox_pass_on_end:\n  ret\n");
#define ARGUMENT(context, n) ((context)->uc_mcontext.regs[n])
#define RESULT(context) ((context)->uc_mcontext.regs[0])
#else
#error "x86-64 and aarch64"
#endif

static void on_system_call(int signal_number, siginfo_t *info, void *pointer)
{
    ucontext_t *context = pointer;
    int number = info->si_syscall;
    (void)signal_number;
    if (mine) {
        add(&mine->kernel);
        add(&mine->kernel_by_number[number < SYSCALLS ? number : SYSCALLS - 1]);
    }
    RESULT(context) = velox_pass_on(
        ARGUMENT(context, 0), ARGUMENT(context, 1), ARGUMENT(context, 2), ARGUMENT(context, 3),
        ARGUMENT(context, 4), ARGUMENT(context, 5), number);
}

static int watch_this_thread(void)
{
    uint64_t end = (uint64_t)(uintptr_t)velox_pass_on_end;
    struct sigaction action = {.sa_sigaction = on_system_call, .sa_flags = SA_SIGINFO | SA_NODEFER};
    /* The instruction pointer that the kernel reports is that after the instruction. */
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_rt_sigreturn, 4, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)end, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(end >> 32), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
    if (sigaction(SIGSYS, &action, NULL) != 0)
        return errno;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return errno;
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
        return errno;
    return 0;
}

int pthread_setname_np(pthread_t thread, const char *name)
{
    NEXT(pthread_setname_np)
    if (!mine && pthread_equal(thread, pthread_self()) && strncmp(name, "velox-", 6) == 0) {
        unsigned index = __atomic_fetch_add(&used, 1, __ATOMIC_RELAXED);
        if (index < ROWS) {
            struct row *row = &rows[index];
            strncpy(row->name, name, sizeof(row->name) - 1);
            row->refused = watch_this_thread();
            mine = row;
        }
    }
    return real_pthread_setname_np(thread, name);
}

/* For Python. */
const struct row *velox_count_row(const char *name)
{
    unsigned n = __atomic_load_n(&used, __ATOMIC_RELAXED);
    for (unsigned i = n < ROWS ? n : ROWS; i-- > 0;)
        if (strncmp(rows[i].name, name, sizeof(rows[i].name)) == 0)
            return &rows[i];
    return NULL;
}
