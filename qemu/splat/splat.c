// SPDX-License-Identifier: GPL-2.0
/*
 * Does on purpose what must never go unnoticed: `insmod splat.ko kind=<name>`.
 *
 * The harness has to turn red on each kind, and the logs in ../vm/fixtures were
 * recorded with them (qemu/record-splats.sh).
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/irq_work.h>
#include <linux/kfence.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

static char *kind = "";
module_param(kind, charp, 0);

static void warning(void)
{
	WARN(1, "splat on purpose\n");
}

static void oops(void)
{
	int *volatile nowhere = (int *)8;

	*nowhere = 1;
}

static void bug(void)
{
	BUG();
}

/* A non-canonical address: the processor raises a general protection fault. */
static void protection_fault(void)
{
	int *volatile wild = (int *)0xdead000000000000;

	*wild = 1;
}

static void refcount(void)
{
	refcount_t count = REFCOUNT_INIT(1);

	refcount_dec(&count);
	refcount_inc(&count);
}

static void list_corruption(void)
{
	LIST_HEAD(head);
	struct list_head entry;

	list_add(&entry, &head);
	list_del(&entry);
	list_del(&entry);
}

static void slab_leak(void)
{
	struct kmem_cache *cache =
		kmem_cache_create("splat", 72, 0, SLAB_NO_MERGE, NULL);

	if (cache && kmem_cache_alloc(cache, GFP_KERNEL))
		kmem_cache_destroy(cache);
}

/* Needs slab_debug=FZP on the kernel command line. */
static void slab_corruption(void)
{
	char *volatile object = kmalloc(40, GFP_KERNEL);

	object[64] = 1;
	kfree(object);
}

/* Needs kfence.sample_interval=1: sooner or later an allocation is guarded. */
static void kfence(void)
{
	char *volatile object;
	int i;

	for (i = 0; i < 100000; i++) {
		object = kmalloc(40, GFP_KERNEL);
		kfree(object);
		if (is_kfence_address(object)) {
			object[0] = 1;
			return;
		}
		if (i % 100 == 99)
			msleep(1);
	}
}

static void ubsan(void)
{
	volatile int bits = 64;

	bits = 1 << bits;
}

static void atomic_schedule(void)
{
	preempt_disable();
	schedule_timeout_uninterruptible(1);
	preempt_enable();
}

/* Spins where the scheduler cannot come in: found by the soft lockup watchdog. */
static void soft_lockup(void)
{
	preempt_disable();
	for (;;)
		cpu_relax();
}

/* A reader that never ends: the scheduler may come in, the grace period cannot end. */
static void rcu_stall(void)
{
	start_poll_synchronize_rcu();
	rcu_read_lock();
	for (;;)
		cpu_relax();
}

static void hung_task(void)
{
	DECLARE_COMPLETION_ONSTACK(never);

	wait_for_completion(&never);
}

static void kernel_panic(void)
{
	panic("splat on purpose");
}

static void stack_trace(void)
{
	dump_stack();
}

static void kasan(void)
{
	char *volatile object = kmalloc(40, GFP_KERNEL);

	kfree(object);
	object[0] = 1;
}

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);

static void circular_locking(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);

	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static DEFINE_RAW_SPINLOCK(irq_lock);

static void take_irq_lock(struct irq_work *work)
{
	raw_spin_lock(&irq_lock);
	raw_spin_unlock(&irq_lock);
}

/* An interrupt takes a lock that others hold with interrupts on. */
static void lock_state(void)
{
	static struct irq_work work = IRQ_WORK_INIT_HARD(take_irq_lock);

	irq_work_queue(&work);
	irq_work_sync(&work);
	raw_spin_lock(&irq_lock);
	raw_spin_unlock(&irq_lock);
}

static void lock_held(void)
{
	mutex_lock(&first);
}

static void rcu_usage(void)
{
	static int __rcu *pointer;

	rcu_dereference(pointer);
}

static void atomic_sleep(void)
{
	preempt_disable();
	might_sleep();
	preempt_enable();
}

static void preemptible_id(void)
{
	smp_processor_id();
}

static void nothing(struct timer_list *timer)
{
}

static void debug_objects(void)
{
	static struct timer_list timer;

	timer_setup(&timer, nothing, 0);
	mod_timer(&timer, jiffies + 1000 * HZ);
	timer_setup(&timer, nothing, 0);
}

/* The last pointer may survive in a register or on a stack. */
static void memory_leak(void)
{
	int i;

	for (i = 0; i < 10; i++)
		kmalloc(40 + i, GFP_KERNEL);
}

static void hard_lockup(void)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static void spin(struct work_struct *work)
{
	unsigned long end = jiffies + 30 * HZ;

	while (time_before(jiffies, end))
		cpu_relax();
}

static void no_work(struct work_struct *work)
{
}

/* Needs workqueue.watchdog_thresh=10: a second item waits behind one that keeps its processor. */
static void workqueue_lockup(void)
{
	static DECLARE_WORK(busy, spin);
	static DECLARE_WORK(waiting, no_work);

	schedule_work_on(0, &busy);
	schedule_work_on(0, &waiting);
	flush_work(&busy);
	flush_work(&waiting);
}

static const struct {
	const char *name;
	void (*run)(void);
} kinds[] = {
	{ "warning", warning },
	{ "oops", oops },
	{ "bug", bug },
	{ "protection-fault", protection_fault },
	{ "refcount", refcount },
	{ "list-corruption", list_corruption },
	{ "slab-leak", slab_leak },
	{ "slab-corruption", slab_corruption },
	{ "kfence", kfence },
	{ "ubsan", ubsan },
	{ "atomic-schedule", atomic_schedule },
	{ "soft-lockup", soft_lockup },
	{ "rcu-stall", rcu_stall },
	{ "hung-task", hung_task },
	{ "panic", kernel_panic },
	{ "stack-trace", stack_trace },
	/* Only a debug kernel sees these. */
	{ "kasan", kasan },
	{ "circular-locking", circular_locking },
	{ "lock-state", lock_state },
	{ "lock-held", lock_held },
	{ "rcu-usage", rcu_usage },
	{ "atomic-sleep", atomic_sleep },
	{ "preemptible", preemptible_id },
	{ "debug-objects", debug_objects },
	{ "memory-leak", memory_leak },
	{ "hard-lockup", hard_lockup },
	{ "workqueue-lockup", workqueue_lockup },
};

static int __init splat_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!strcmp(kind, kinds[i].name)) {
			kinds[i].run();
			return 0;
		}
	}
	pr_err("splat: no kind \"%s\"\n", kind);
	return -EINVAL;
}

static void __exit splat_exit(void)
{
}

module_init(splat_init);
module_exit(splat_exit);
MODULE_DESCRIPTION("Kernel splats on purpose");
MODULE_LICENSE("GPL");
