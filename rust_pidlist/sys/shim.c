// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel offers to C only: macros and inline functions. Nothing here decides anything;
 * each function belongs to the Rust file beside it that declares it.
 */

#include <linux/irq_work.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/tracepoint.h>
#include <linux/workqueue.h>

/* raw_lock.rs */
void pidlist_raw_spin_lock_init(raw_spinlock_t *lock);
void pidlist_raw_spin_lock_init(raw_spinlock_t *lock)
{
	raw_spin_lock_init(lock);
}

/* deferred.rs */
void pidlist_init_irq_work(struct irq_work *work, void (*func)(struct irq_work *));
void pidlist_init_irq_work(struct irq_work *work, void (*func)(struct irq_work *))
{
	init_irq_work(work, func);
}

void pidlist_init_work(struct delayed_work *work, work_func_t func);
void pidlist_init_work(struct delayed_work *work, work_func_t func)
{
	INIT_DELAYED_WORK(work, func);
}

void pidlist_schedule_work(struct delayed_work *work, unsigned int delay_ms);
void pidlist_schedule_work(struct delayed_work *work, unsigned int delay_ms)
{
	schedule_delayed_work(work, msecs_to_jiffies(delay_ms));
}

/* tracepoint.rs */
void pidlist_tracepoint_synchronize(void);
void pidlist_tracepoint_synchronize(void)
{
	tracepoint_synchronize_unregister();
}

/* chunks.rs */
struct kmem_cache *pidlist_cache_create(const char *name, unsigned int size);
struct kmem_cache *pidlist_cache_create(const char *name, unsigned int size)
{
	/* Not merged with a cache of like size: its own line in slabinfo shows what lists cost. */
	return kmem_cache_create(name, size, 0, SLAB_NO_MERGE, NULL);
}

/* task.rs: under rcu_read_lock */
struct task_struct *pidlist_next_process(struct task_struct *task);
struct task_struct *pidlist_next_process(struct task_struct *task)
{
	task = next_task(task);
	return task == &init_task ? NULL : task;
}
