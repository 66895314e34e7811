// SPDX-License-Identifier: GPL-2.0
/*
 * Does on purpose what must never go unnoticed: `insmod splat.ko kind=<name>`.
 *
 * The harness has to turn red on each kind, and the logs in ../vm/fixtures were
 * recorded with them (qemu/record-splats.sh).
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kfence.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>

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
